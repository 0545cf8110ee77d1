"""What an evaluation says: report.json, report.csv and the table on the terminal."""
