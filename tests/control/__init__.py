"""Control alone: kernel and vault are played by small fakes (named Fake…) behind real sockets; peers are real."""
