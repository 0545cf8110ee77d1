"""One model and its one cache: slots, masks, and which models it can hold."""
