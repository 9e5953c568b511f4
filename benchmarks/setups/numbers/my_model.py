"""Two linear layers whose output says its range."""

from torch import nn


class Predictor(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.hidden = nn.Linear(inputs, 16)
        self.act = nn.ReLU()
        self.last = nn.Linear(16, outputs)
        self.last.output_range = (-1.0, 1.0)

    def forward(self, x):
        hidden = self.act(self.hidden(x))
        return self.last(hidden)


def predictor(input_shape, outputs):
    return Predictor(input_shape[0], outputs)
