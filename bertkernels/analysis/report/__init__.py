"""What experiments found, as Markdown, CSV and plots."""
