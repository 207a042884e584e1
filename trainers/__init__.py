"""How a network is trained on given (possibly wrong) labels: one file per method, one shared epoch loop."""
