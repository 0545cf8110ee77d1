"""What a package's evaluation recommends to decode with: its file, its values, its words."""
