"""ML-KEM-768 against NIST's vectors (testdata/README.md says where from)."""

import json
import pathlib
import unittest

import mlkem

VECTORS = json.loads((pathlib.Path(__file__).parent / "testdata" / "mlkem768.json").read_text())


def unhex(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


class TestNIST(unittest.TestCase):
    def test_keygen(self):
        for case in VECTORS["keyGen"]:
            with self.subTest(case["tcId"]):
                d, z, ek, dk = unhex(case, "d", "z", "ek", "dk")
                self.assertEqual(mlkem.keygen(d, z), (ek, dk))

    def test_encapsulation(self):
        for case in VECTORS["encapsulation"]:
            with self.subTest(case["tcId"]):
                ek, m, k, c = unhex(case, "ek", "m", "k", "c")
                self.assertEqual(mlkem.encaps(ek, m), (k, c))

    def test_decapsulation(self):
        """Two of the cases are of ciphertexts that NIST has changed, which give another secret and no error."""
        dk = bytes.fromhex(VECTORS["decapsulation dk"])
        rejected = 0
        for case in VECTORS["decapsulation"]:
            with self.subTest(case["tcId"]):
                c, k = unhex(case, "c", "k")
                self.assertEqual(mlkem.decaps(dk, c), k)
                rejected += k == mlkem._j(dk[-32:] + c)
        self.assertEqual((rejected, len(VECTORS["decapsulation"])), (2, 4))


class TestRefusals(unittest.TestCase):
    def test_coefficients_not_below_q(self):
        ek = bytearray(mlkem.keygen(bytes(32), bytes(32))[0])
        mlkem.check_encapsulation_key(ek)
        for at in (0, 384, 1149):  # of the first, a middle and the last polynomial
            bad = ek.copy()
            first = int.from_bytes(bad[at:at + 3], "little") & 0xfff000 | mlkem.Q
            bad[at:at + 3] = first.to_bytes(3, "little")
            with self.assertRaises(mlkem.KeyRefused):
                mlkem.check_encapsulation_key(bytes(bad))

    def test_lengths(self):
        ek, dk = mlkem.keygen(bytes(32), bytes(32))
        self.assertEqual((len(ek), len(dk)), (1184, 2400))
        for bad in (ek[:-1], ek + b"\0"):
            with self.assertRaises(mlkem.KeyRefused):
                mlkem.encaps(bad, bytes(32))
        with self.assertRaises(mlkem.KeyRefused):
            mlkem.decaps(dk, bytes(1087))


if __name__ == "__main__":
    unittest.main()
