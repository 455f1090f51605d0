//! Streaming video autoencoders: latent frames in, pictures out (and back).
