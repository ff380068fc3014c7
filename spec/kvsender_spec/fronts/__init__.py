"""Ways into the kit from the test frameworks of others."""
