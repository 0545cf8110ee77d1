"""One evaluation: what it opens, its cells, its expectations and verdict, its report."""
