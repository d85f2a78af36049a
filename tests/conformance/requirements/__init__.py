"""What the specifications demand, one list per specification, each demand with the test that holds us to it."""
