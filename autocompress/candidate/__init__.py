"""What happens to one candidate, in the order of the flow."""
