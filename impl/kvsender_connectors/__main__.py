from kvsender_connectors.command import app

app()
