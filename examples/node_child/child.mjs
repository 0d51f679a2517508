import vm from 'node:vm';

process.on('message', ({ number, source }) => {
  try {
    process.send({ number, value: vm.runInNewContext(source) });
  } catch (error) {
    process.send({ number, error: String(error) });
  }
});
