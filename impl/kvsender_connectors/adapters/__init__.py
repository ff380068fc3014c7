"""One module for each sender. Importing one loads its release, so a process imports only one of them."""
