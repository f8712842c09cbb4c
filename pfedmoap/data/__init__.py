"""Image sets: where they come from (`catalog`), how clients share them (`partition`), their features (`features`)."""
