"""Runs in the browser: a local page to chat with them. Needs the extra `lab`; importing the room does not."""
