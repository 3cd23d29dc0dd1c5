"""What the pages of the console share: their frame, words, documents and permissions."""
