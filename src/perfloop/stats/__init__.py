"""Pure mathematics on samples: plain numbers in, frozen values out."""
