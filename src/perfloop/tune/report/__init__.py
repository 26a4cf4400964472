"""Studies and analyses rendered for people and programs. Pure: a value in, text out."""
