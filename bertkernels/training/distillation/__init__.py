"""Knowledge distillation: losses between a teacher and a student, and what makes them of two encoders."""
