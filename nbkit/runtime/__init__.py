"""The library that a notebook imports: sessions, items, training, stores. Knows no neuroscience and no tools."""
