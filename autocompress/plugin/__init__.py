"""The door for techniques: what a plug-in implements, and how it is found."""
