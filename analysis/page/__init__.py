"""The report as one HTML file that needs no network: numbers (`facts`), then ink (`build`, a template, style, script)."""
