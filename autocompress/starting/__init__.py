"""From a project folder to a task file: what lies in the folder, what is asked, what is written.

The folder is read, never run: code by its syntax tree, checkpoints by their tensors' names and shapes.
"""
