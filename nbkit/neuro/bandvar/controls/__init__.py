"""Controls of next-band prediction: what filters, linear relations and artifacts explain."""
