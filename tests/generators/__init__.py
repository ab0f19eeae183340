"""Test data made from the public specifications alone: nothing here knows the program, so that both cannot share a mistake."""
