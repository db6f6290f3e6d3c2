"""What the analysis finds in encoders, looked for in plain networks of fully connected and of convolution layers."""
