"""Kinds of layers that several techniques tell apart."""

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECURRENT_LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
MATRIX_LAYERS = (*CONVOLUTIONS, nn.Linear, nn.RNNBase, nn.MultiheadAttention)  # whose weights are matrices or kernels
