"""Muon: momentum SGD whose update of every matrix is orthogonalised by a Newton-Schulz iteration."""

import torch


class Muon:
    """For weights of two or more dimensions, flattened to [out, rest]; equal shapes are processed as one batch."""

    def __init__(self, params, lr=0.02, momentum=0.95):
        self.lr, self.momentum, self.groups = lr, momentum, {}
        for p in params:
            self.groups.setdefault((p.shape[0], p.numel() // p.shape[0]), []).append(p)
        self.buffers = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self):
        for shape, params in self.groups.items():
            grad = torch.stack([p.grad.reshape(shape) for p in params])
            buffer = self.buffers[shape]
            buffer.lerp_(grad, 1 - self.momentum)
            x = grad.lerp(buffer, self.momentum).bfloat16()
            tall = shape[0] > shape[1]
            x = x.transpose(1, 2) if tall else x
            x = x / (x.float().flatten(1).norm(dim=1)[:, None, None] + 1e-7).bfloat16()
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = (x.transpose(1, 2) if tall else x).float() * max(1, shape[0] / shape[1]) ** 0.5
            for p, update in zip(params, x):
                p.sub_(update.reshape(p.shape), alpha=self.lr)

    def state_dict(self):
        return self.buffers

    def load_state_dict(self, buffers):
        for shape, value in buffers.items():
            self.buffers[shape].copy_(value)
