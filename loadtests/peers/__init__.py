"""Other ways to count a click, for a comparison on the same machine: README.md here."""
