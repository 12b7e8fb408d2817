"""The rules of `maquette research check`, a few per file; check.RULES is the whole list."""
