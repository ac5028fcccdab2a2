"""What a run says as text to be used elsewhere: tables for papers, and lines for spreadsheets."""
