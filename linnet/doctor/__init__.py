"""`linnet doctor`: whether each way of computing on this machine gives the right loss and the right gradients."""
