"""The runtime's side: its requests over the socket, ADD and DEL as use cases, and its configuration file."""
