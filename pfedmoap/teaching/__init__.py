"""What the teaching notebook computes and draws: one function per step of the method, on a finished federation."""
