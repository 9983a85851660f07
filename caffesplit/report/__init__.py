"""Log records and scores as tables and figures."""
