"""The list of bindings, the page of one binding, its history, and the pages that move bindings."""
