"""What the documents say, held against the tree: links, file names, examples, dependencies."""
