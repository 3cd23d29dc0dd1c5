"""Settings of sites whose admin is another than Django's own: server processes of tests run under them."""
