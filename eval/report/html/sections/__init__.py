"""The parts of the page, each a pure function of the report or of a further measurement."""
