"""The public edge: it writes down what happened and answers, and decides nothing about money."""
