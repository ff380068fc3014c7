"""The scripted transport: a verified fake of a NIXL agent, over a fabric that obeys whoever runs the test."""
