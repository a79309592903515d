"""Asking engines what they are, over their own HTTP surface. No key and no prompt goes into a message here."""
