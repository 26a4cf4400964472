"""What perfloop talks about: frozen values without I/O. docs/glossary.md defines the words."""
