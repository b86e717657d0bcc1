"""The numpy half: complexes, merge trees and barcodes."""
