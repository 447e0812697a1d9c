"""Use trained networks on images of your own: predict, denoise, flag what is unlike the training images."""
