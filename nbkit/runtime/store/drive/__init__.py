"""Google Drive as a store, through PyDrive2."""
