import torch

from bertkernels.nn import ALL_TOKENS, Layout, pack_mask


def test_key_mask_comes_from_the_mask_or_the_lengths():
    assert ALL_TOKENS.key_mask(4) is None
    mask = torch.zeros(2, 1, 1, 4)
    assert Layout(attention_mask=mask, lengths=torch.tensor([1, 2], dtype=torch.int32)).key_mask(4) is mask
    found = Layout(lengths=torch.tensor([0, 3], dtype=torch.int32)).key_mask(4)
    assert found.shape == (2, 1, 1, 4)
    assert found.squeeze().tolist() == [[False] * 4, [True, True, True, False]]


def test_packing_and_back():
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    packing = pack_mask(mask)
    assert packing.layout.cu_seqlens.tolist() == [0, 3, 3, 4] and packing.layout.cu_seqlens.dtype == torch.int32
    assert packing.layout.max_seqlen == 3
    x = torch.randn(3, 4, 5, requires_grad=True)
    packed = packing.pack(x)
    assert torch.equal(packed, x[mask])
    back = packing.unpack(packed)
    assert torch.equal(back, x * mask[..., None])
    back.sum().backward()
    assert torch.equal(x.grad, mask[..., None].expand(3, 4, 5).float())


def test_nothing_to_pack():
    assert pack_mask(torch.ones(2, 3, dtype=torch.bool)) is None


def test_nothing_but_padding():
    packing = pack_mask(torch.zeros(2, 3, dtype=torch.bool))
    packed = packing.pack(torch.randn(2, 3, 4))
    assert packed.shape == (0, 4) and packing.layout.max_seqlen == 0
    assert torch.equal(packing.unpack(packed), torch.zeros(2, 3, 4))
