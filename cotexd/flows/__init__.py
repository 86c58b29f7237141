"""What needs the outside and the log: fetch through a gateway, then write through an operation."""
