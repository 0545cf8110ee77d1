"""Stop policies replayed and compared, with the oracle that bounds them."""
