"""`python -m dicom_node` is `similis`."""

from dicom_node.cli import main

if __name__ == "__main__":
    main()
