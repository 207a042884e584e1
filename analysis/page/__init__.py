"""The report as one HTML file that needs no network: numbers (`facts`, `checklist`), then ink (`build`, a template, style, script)."""
