"""The other pages: Why?, try it, connections, processes and the doctor."""
