"""What happened: the local database, the segments in the store, manifests, and the upload queue."""
